"""Messages of the trainer's modules, as lines on standard error."""

import logging

from trainer.options import log_to_stderr


def test_messages_are_plain_lines_each_shown_once(capsys):
    log_to_stderr()
    log_to_stderr()
    logger = logging.getLogger("trainer.data.somewhere")
    logger.debug("nothing")
    logger.info("an epoch of 5%")
    logger.warning("a name\x1b[2J")
    assert capsys.readouterr() == ("", "an epoch of 5%\nwarning: a name\\x1b[2J\n")
