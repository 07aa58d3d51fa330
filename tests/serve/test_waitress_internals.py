"""Waitress still has the names, undocumented by it, that `serve/waitress_server` builds on."""

import importlib
import inspect
import socket
from importlib.metadata import version
from types import SimpleNamespace

import pytest
from waitress import task
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer

from cspine.serve.waitress_server.connection import DeadlineChannel
from cspine.serve.waitress_server.early_refusal import ProblemTask, ServerFullError
from cspine.serve.waitress_server.listener import Listener
from cspine.serve.waitress_server.parser import RequestParser

ADVICE = (
    f"Waitress {version('waitress')} {{}}, on which cspine/serve/waitress_server builds. "
    "Pin an older minor version in the Pipfile, or change that room."
)
# Functions, and the parameters that they must have in this order.
SIGNATURES = {
    "channel.HTTPChannel.handle_close": "self",
    "channel.HTTPChannel.handle_expt": "self",
    "channel.HTTPChannel.received": "self data",
    "channel.HTTPChannel.send": "self data do_close",
    "channel.HTTPChannel.send_continue": "self",
    "parser.HTTPRequestParser.close": "self",
    "parser.HTTPRequestParser.parse_header": "self header_plus",
    "parser.HTTPRequestParser.received": "self data",
    "parser.ParsingError": "args kwargs",
    "parser.get_header_lines": "header",
    "receiver.ChunkedReceiver.__len__": "self",
    "server.TcpWSGIServer.__init__": (
        "self application map _start _sock dispatcher adj sockinfo bind_socket kw"
    ),
    "server.TcpWSGIServer.accept": "self",
    "server.TcpWSGIServer.add_task": "self task",
    "server.TcpWSGIServer.close": "self",
    "server.TcpWSGIServer.handle_error": "self",
    "server.TcpWSGIServer.pull_trigger": "self",
    "server.TcpWSGIServer.readable": "self",
    "task.ErrorTask.execute": "self",
    "task.Task.set_close_on_finish": "self",
    "task.Task.write": "self data",
    "task.ThreadedTaskDispatcher.set_thread_count": "self count",
    "task.ThreadedTaskDispatcher.shutdown": "self cancel_pending timeout",
    "utilities.BadRequest.__init__": "self body",
    "utilities.Error.__init__": "self body",
    "utilities.ServerNotImplemented.__init__": "self body",
    "wasyncore.close_all": "map ignore_all",
    "wasyncore.loop": "timeout use_poll map count",
}
# What an object has as soon as it is made.
ATTRIBUTES = {
    "channel": (
        "error_task_class parser_class request requests requests_lock server total_outbufs_len"
    ),
    "error": "body code reason",
    "listener": "channel_class effective_port logger",
    "parser": (
        "body_bytes_received body_rcv chunked completed error expect_continue header_plus headers "
        "headers_finished"
    ),
    "task": "channel complete content_length request response_headers status",
}
OURS = (DeadlineChannel, Listener, ProblemTask, RequestParser, ServerFullError)


@pytest.mark.parametrize("name", SIGNATURES)
def test_waitress_has_the_function(name):
    module, _, path = name.partition(".")
    found = importlib.import_module(f"waitress.{module}")
    for part in path.split("."):
        found = getattr(found, part, None)
        assert found is not None, ADVICE.format(f"has no `{name}`")
    if name == "parser.ParsingError":
        assert issubclass(found, Exception)
        return
    parameters = " ".join(inspect.signature(found).parameters)
    assert parameters == SIGNATURES[name], ADVICE.format(f"has another `{name}`: {parameters}")


@pytest.fixture
def made():
    """Objects of Waitress's own by the words of ATTRIBUTES."""
    adjustments, one = Adjustments(listen="127.0.0.1:0"), socket.socketpair()
    dispatcher = task.ThreadedTaskDispatcher()
    sockets = {}
    listener = TcpWSGIServer(
        None, sockets, dispatcher=dispatcher, adj=adjustments, sockinfo=adjustments.listen[0]
    )
    channel = HTTPChannel(listener, one[0], ("a", 1), adjustments, map=sockets)
    parser = HTTPRequestParser(adjustments)
    refusal = task.ErrorTask(channel, SimpleNamespace(version="1.1"))
    error = ServerFullError()
    yield {
        "channel": channel,
        "error": error,
        "listener": listener,
        "parser": parser,
        "task": refusal,
    }
    channel.handle_close()
    listener.close()
    one[1].close()


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_waitress_has_the_attributes(made, kind):
    missing = [name for name in ATTRIBUTES[kind].split() if not hasattr(made[kind], name)]
    assert not missing, ADVICE.format(f"has no {', '.join(missing)} in its {kind}")


@pytest.mark.parametrize("ours", OURS)
def test_all_that_is_overridden_is_listed(ours):
    bases = [one for one in ours.__mro__ if one.__module__.startswith("waitress.")]
    theirs = {name for base in bases for name in vars(base)}
    listed = {name.rpartition(".")[2] for name in SIGNATURES}
    listed.update(*(names.split() for names in ATTRIBUTES.values()))
    own = {"__module__", "__doc__", "__init__", "__annotations__", "code", "reason"}
    assert (vars(ours).keys() & theirs) - own <= listed
