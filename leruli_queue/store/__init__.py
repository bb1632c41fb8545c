"""PostgreSQL, the only authority on jobs: connections, migrations, and all SQL statements."""
