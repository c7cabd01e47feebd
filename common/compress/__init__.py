"""What a compression is: what its stages prune, cluster and quantise, and what they start from and leave."""
