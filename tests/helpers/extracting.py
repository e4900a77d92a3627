"""The two ways to take frames, side by side, for their tests."""

import numpy as np
from media import read_number

from shardify.video.container import open_video
from shardify.video.extract import Request, take_by_counting, take_by_time
from shardify.video.resize import PictureMaker
from shardify.video.timeline import packet_runs, read_timeline


def request(frames=16, clips=1, stride=None):
    return Request(frames, clips, stride, PictureMaker(64))


def quick(path, wanted):
    with open_video(path) as video:
        return take_by_time(video, wanted)


def thorough(path, wanted):
    with open_video(path) as video:
        return take_by_counting(video, wanted)


def runs_of(path, wanted):
    """The runs of packets that the quick way decodes."""
    with open_video(path) as video, video.demuxer() as stream:
        timeline = read_timeline(video, stream)
        plan = wanted.plan(timeline.times, timeline.last_duration, stream.time_base)
    return packet_runs(timeline, {timeline.times[number] for clip in plan for number in clip})


def assert_same(one, other):
    assert (one.plan, one.times, one.last_duration) == (other.plan, other.times, other.last_duration)
    assert one.info == other.info
    assert one.pictures.keys() == other.pictures.keys()
    assert all(np.array_equal(one.pictures[number], other.pictures[number]) for number in one.pictures)


def is_numbered_as_planned(taken, offset=0):
    return all(read_number(picture) == number + offset for number, picture in taken.pictures.items())
