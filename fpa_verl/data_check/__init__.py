"""`fpa-verl data check`: all that can be known to be wrong with a rollout dataset or a problem file before a run.

Looks, and changes nothing. Nothing that is read is executed: no pickle, and no code that comes with a model.
"""

from fpa_verl.data_check.dataset import check_dataset
from fpa_verl.data_check.problem_files import Against, check_problem_file

__all__ = ["Against", "check_dataset", "check_problem_file"]
