"""The trainers that recipes name by `trainer.v1.trainer_mode`. Each changes one thing of verl's.

metered_sync      verl's synchronous trainer (GRPO and the like), written down
offline           the same loop on stored rollouts: no generation, no old-log-prob pass
collect           generation and scoring alone: no training engine
collect_tree    the same, step by step: a search of trees
evaluate          the same for any problem sets, several answers to each problem
evaluate_snapshots  the same for the snapshots of runs, one after the other
cache_reference   one forward pass of the base model over the dataset: no update, no rollout engine

Importing this package registers them. Each is `WatchedTrainer` (base.py) and, of the others, those that train are
`MeteredTrainer`, `ValidatingTrainer`, `BestKeepingTrainer` and `SnapshotKeepingTrainer` on top of each other.
"""

import fpa_verl.integration.trainers.cache_reference
import fpa_verl.integration.trainers.collect
import fpa_verl.integration.trainers.collect_tree
import fpa_verl.integration.trainers.evaluate
import fpa_verl.integration.trainers.evaluate_snapshots
import fpa_verl.integration.trainers.metered_sync
import fpa_verl.integration.trainers.offline  # noqa: F401
