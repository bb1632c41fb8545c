"""PostgreSQL, the only truth about jobs: connections, migrations, and every SQL statement."""
