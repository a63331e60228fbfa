"""What is built on a fetcher: functions that take one, or the settings of one."""

from asyncfetch.toolbox.cost import Cost, Share, estimate
from asyncfetch.toolbox.doctor import Diagnosis, Light, diagnose
from asyncfetch.toolbox.policy import policy
from asyncfetch.toolbox.presign import PresignedURL, presign
from asyncfetch.toolbox.throughput import Step, Survey, measure
from asyncfetch.toolbox.thumbnails import Made, ThumbnailOptions, Told, thumbnails

__all__ = [
    "Cost",
    "Diagnosis",
    "Light",
    "Made",
    "PresignedURL",
    "Share",
    "Step",
    "Survey",
    "ThumbnailOptions",
    "Told",
    "diagnose",
    "estimate",
    "measure",
    "policy",
    "presign",
    "thumbnails",
]
