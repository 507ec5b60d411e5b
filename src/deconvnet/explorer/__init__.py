"""The live page: a server for atlases, and for what networks make of photos that are dropped on it.

`serve.py` listens, `guard.py` decides who is answered, `app.py` says what is at which address. Behind them `served.py` finds
the networks, `bodies.py` reads what is sent and `uploads.py` photos, `photos.py` keeps them, `seeing.py` and `covering.py`
say what a network makes of one, in the one thread of `work.py`; `files.py` hands out the pages and pictures of atlases.
"""
