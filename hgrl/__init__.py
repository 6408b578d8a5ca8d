import os

if os.environ.pop("HGRL_WORKERS_FIRST", None):  # set for a stage's notebook, whose worker processes import torch while it does
    from hgrl.parallel import start_ahead

    start_ahead()
