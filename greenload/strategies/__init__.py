"""Strategies of augmentation compared: what each costs, what accuracy it buys, and which to choose."""

from greenload.strategies.ready import augmix as augmix
from greenload.strategies.ready import autoaugment as autoaugment
from greenload.strategies.ready import mixes as mixes
from greenload.strategies.ready import randaugment as randaugment
from greenload.strategies.ready import standard as standard
from greenload.strategies.ready import three_augment as three_augment
from greenload.strategies.ready import trivial as trivial
