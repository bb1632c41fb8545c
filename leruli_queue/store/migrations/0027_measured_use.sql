-- What an attempt used besides wall time, CPU time and memory, and how long its node needed for each phase. From the
-- receipt, in the same update. NULL: its agent is older, or did not measure it.
ALTER TABLE attempts
    -- Memory without page cache, which the kernel takes back when a job needs memory.
    ADD COLUMN peak_no_cache_mb integer,
    ADD COLUMN disk_mb          integer,
    ADD COLUMN image_s          double precision,
    ADD COLUMN input_s          double precision,
    ADD COLUMN output_s         double precision;
