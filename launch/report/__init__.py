"""`intravid report`: run folders to one page. `write.py` is the way in.

Files that a run leaves are read by `runs.py`; what a network makes of its videos is computed by `look.py`. Sections of
the page are `glance`, `results`, `curves`, `neighbours`, `scatter`, `similarity`, `confusion`, `attention`, `inputs`:
each a function from these to elements. `markup`, `charts`, `animation`, `meanings` and `style.css` are what they are
written with.
"""
