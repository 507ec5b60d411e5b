"""The live page: a server for atlases, and for what networks compute from images that a user uploads.

`server.py` listens; `middleware.py` rejects requests of other origins; `app.py` and `routes.py` define the addresses. Behind
them `models.py` finds the networks of the atlases, `uploads.py` reads and keeps images, `inference.py` and
`occlusion_stream.py` run networks in the thread of `worker.py`, `static_files.py` serves pages and pictures, and
`responses.py` makes the responses.
"""
