"""The store on SQLite: no service, any number of reading processes, one that writes, one file a day."""
