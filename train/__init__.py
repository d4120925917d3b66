"""The training driver: `python train/run.py`, or `python -m train.run`.

`run` starts `main` (command line to exit status), which runs an `experiment`: load (`data`), build (`model`,
`training`), train, evaluate (`evaluation`), save (`output`). `options` holds the command line. `commands` are what is
done with a trained network, which `restore` takes out of the folder of its run.
"""
