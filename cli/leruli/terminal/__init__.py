"""What commands print at a terminal: output, tables, progress, reports."""
