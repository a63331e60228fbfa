"""What is built on a fetcher: functions that take one, or the settings of one."""

from asyncfetch.toolbox.cost import Cost, Share, estimate
from asyncfetch.toolbox.doctor import Diagnosis, Light, diagnose
from asyncfetch.toolbox.policy import policy
from asyncfetch.toolbox.presign import PresignedURL, presign
from asyncfetch.toolbox.throughput import Step, Survey, measure

__all__ = [
    "Cost",
    "Diagnosis",
    "Light",
    "PresignedURL",
    "Share",
    "Step",
    "Survey",
    "diagnose",
    "estimate",
    "measure",
    "policy",
    "presign",
]
