-- Whether jobs are being dispatched, cluster by cluster: what their users are told goes by it.
CREATE TABLE dispatchers (
    cluster          text PRIMARY KEY,
    -- When a dispatcher last said that it serves the cluster, or would if Nomad let it.
    seen_at          timestamptz NOT NULL,
    -- Since when no dispatcher can use the cluster's Nomad; null while one can.
    nomad_away_since timestamptz
) WITH (fillfactor = 50);
