"""The routes of REST, a module for each noun. Each asks the store or the nodes, and says how far its answer holds."""
