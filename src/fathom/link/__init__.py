"""The link of agents and server: one stream that agents dial, delivery that survives crashes, live questions."""
