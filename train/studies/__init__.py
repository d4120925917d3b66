"""A study: many short runs on one data set, compared pair by pair.

`setting` is one run as data, `grid` a TOML file that lists many; `prefix` computes once what a frozen network gives,
`classes` splits the data, `criterion` makes the loss, `trial` trains and measures; `results` keeps the figures, and
`comparison`, `statistics` and `tables` say what they mean.
"""
