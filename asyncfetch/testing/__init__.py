"""For tests and trials: an S3 server that misbehaves by plan, a scripted one, an embedded one, and photographs."""

from asyncfetch.testing.faults import Fault, Faults
from asyncfetch.testing.faultserver import Asked, FaultServer
from asyncfetch.testing.photographs import demo_objects, photographs
from asyncfetch.testing.scripted import Ending, Hold, Pause, RawRequest, ScriptedServer, answer, dribble
from asyncfetch.testing.servers import Credentials, EmbeddedS3, SeenRequest
from asyncfetch.testing.shelf import Generated

__all__ = [
    "Asked",
    "Credentials",
    "EmbeddedS3",
    "Ending",
    "Fault",
    "FaultServer",
    "Faults",
    "Generated",
    "Hold",
    "Pause",
    "RawRequest",
    "ScriptedServer",
    "SeenRequest",
    "answer",
    "demo_objects",
    "dribble",
    "photographs",
]
