"""Which objects this kernel can run, their life, and one reducer a probe: records in, observations out."""
