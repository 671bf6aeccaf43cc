"""The only code that touches bpf(2): a Spec is read, an Object is loaded from it, Links attach it.

A Spec is the same for the same file and needs no root; whatever depends on the running kernel happens when the Object
is made. Nothing is pinned: programs, maps and links live by descriptors of this process and die with it, also by
SIGKILL.
"""
