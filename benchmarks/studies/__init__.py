"""`twinscale study`: a design of sizes and tokens trained by one backend or both, as a table of results and a law."""
