"""What a run leaves in its folder: `report` (metrics, summary), `pictures`, `checkpoint`."""
