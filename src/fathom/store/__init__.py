"""What every agent reported, kept: one schema, one set of questions, one small writer per engine.

``fathom.store.opening.open_store`` chooses the engine by URL; ``fathom.store.interface`` is what the others rely on.
"""
