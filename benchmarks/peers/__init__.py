"""What `twinscale bench --peers` measures beside us: each file trains the same layers as others write them, in a
process of its own, whose environment may be another one."""
