"""Ground truth: programs that count what they do, the networks that they do it in, and how to compare.

Nothing here knows how Fathom sees the traffic. ``talker`` talks and tells what ``send`` and ``recv`` returned, ``wire``
loses and delays, ``network`` makes namespaces, ``ledger`` holds the counts to compare.
"""
