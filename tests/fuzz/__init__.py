"""A seeded fuzz of every reader: small files are changed, and what is read is compared with them.

`pytest tests/fuzz --fuzz N --fuzz-seed S` tries N changes; a case is a number, which decides on the
reader and on all that is changed. `readers.py` has the files, what reads them, and for each an
independent reader that knows the right result; `mutations.py` changes files; `harness.py` runs a
case in a process of its own and says how it ended.
"""
