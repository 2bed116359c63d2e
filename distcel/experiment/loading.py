from search_spaces import DATASETS as DATASETS
from search_spaces import PRESET_NAMES as PRESET_NAMES
from search_spaces import load_experiment as load_experiment
