"""Learning migration barriers in rounds: choose hops of a pool, compute their barriers, learn from them, judge."""
