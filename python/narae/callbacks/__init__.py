"""Ready-made callbacks, public as `narae.callbacks`."""

from narae.callbacks.checkpoint import BackupAndRestore as BackupAndRestore
from narae.callbacks.checkpoint import ModelCheckpoint as ModelCheckpoint
from narae.callbacks.csv_logger import CSVLogger as CSVLogger
from narae.callbacks.ema import SwapEMAWeights as SwapEMAWeights
from narae.callbacks.lambda_callback import LambdaCallback as LambdaCallback
from narae.callbacks.learning_rate import LearningRateScheduler as LearningRateScheduler
from narae.callbacks.learning_rate import ReduceLROnPlateau as ReduceLROnPlateau
from narae.callbacks.stopping import EarlyStopping as EarlyStopping
from narae.callbacks.stopping import TerminateOnNaN as TerminateOnNaN
from narae.training.callback import Callback as Callback
from narae.training.callback import CallbackList as CallbackList
from narae.training.callback import History as History
from narae.training.progress import ProgbarLogger as ProgbarLogger
