"""Messengers send messages from the sensor to a server.

The status of a response says only what the messenger knows:

* ``SUCCESS``: the server acknowledged it;
* ``ERROR``: the server refused *this message*, or it can never be sent:
  sending it again as it is will not help;
* ``FAILED``: the server cannot take it now, or the connection ended before
  its answer; it may have arrived;
* ``TIMEOUT``: the server did not answer in time; it may have arrived;
  Three FAILED or TIMEOUT in a row end the pass; if the server says when to come
  back, that is ``retry_after`` of the response, and nothing is sent before;
* `MessageSendError` is raised when nothing reached the server.

If the server refuses the sensor (an expired token, an address or topic that it
may not use), nothing is wrong with the message: the response says
``is_access_refused``, or the error is an `AccessRefusedError`. Such a message is
retried without limit.

A message may thus arrive twice, but it never counts as delivered without
having arrived. Servers can recognise a repeated message by its id:
header ``Idempotency-Key`` (HTTP), user property ``message_id`` (MQTT 5; under
3.1.1 only by its content, which is the same). Which device it comes from is beside
it: header ``Acoupi-Device-Id``, user property ``device_id``.

A configuration costs no HTTP or MQTT library until its messenger is made.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.components.messengers.config import *
    from acoupi.components.messengers.file import *
    from acoupi.components.messengers.http import *
    from acoupi.components.messengers.mqtt import *
    from acoupi.components.messengers.phones import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".config": "AppriseConfig FileConfig HTTPConfig MQTTConfig MQTTTransport",
        ".file": "FileMessenger",
        ".http": "HTTPMessenger",
        ".mqtt": "MQTTMessenger",
        ".phones": "AppriseMessenger",
    },
)
