"""What a run leaves in its folder: `report` (metrics, summary, page), `pictures`, `checkpoint`.

The page is made of `sections`, which are written in `html`; `grid`, `similarities` and `curves` are what they show.
"""
