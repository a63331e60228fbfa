"""What is built on a fetcher: functions that take one, or the settings of one."""

from asyncfetch.toolbox.throughput import Step, Survey, measure

__all__ = ["Step", "Survey", "measure"]
