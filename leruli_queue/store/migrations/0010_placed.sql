-- A node that does not begin with what was placed on it does not keep it: docs/attempts.md.

-- Since when the attempt is known to have its allocation; null while it has none.
ALTER TABLE attempts ADD COLUMN placed_at timestamptz;
