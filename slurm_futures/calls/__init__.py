"""A call and its future: pickling, the chunks of a map, outcomes. Knows no job."""
