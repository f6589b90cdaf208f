"""Settings of the smallest run, as ``--set`` takes them."""

SMALL = [
    "n_samples=24",
    "n_validation=0",
    "batch_size=12",
    "w2_points=20",
    "steps=2",
    "controls=[]",
    "rivals=[]",
    "rival_timesteps=uniform",
    "full_chain.steps=2",
    "t_trunc=100",
]
