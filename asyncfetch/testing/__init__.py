"""For tests and trials: an embedded S3 server, photographs to fill it (extra `demo`), and a server that misbehaves."""

from asyncfetch.testing.photographs import demo_objects, photographs
from asyncfetch.testing.scripted import Ending, Hold, RawRequest, ScriptedServer, answer, dribble
from asyncfetch.testing.servers import Credentials, EmbeddedS3, SeenRequest

__all__ = [
    "Credentials",
    "EmbeddedS3",
    "Ending",
    "Hold",
    "RawRequest",
    "ScriptedServer",
    "SeenRequest",
    "answer",
    "demo_objects",
    "dribble",
    "photographs",
]
