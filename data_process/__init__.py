"""Videos to LMDB shards, and shards to records and encoded frames; knows nothing of training."""
