"""A broker on the library openbrokerapi, which sells keys of one database to the operator's tests.

Its bindings are in memory. With `--in-background` it makes and revokes them in the background, one at a time: the
first look at an operation finds it in progress, the next one finds it done. `--routed` puts the library's own router
in front, as its `serve_multiple` does. What breaks the rules is answered with the library's own exceptions.

`/testing` is for the tests alone: which bindings there are, and to hold back what is under way.
"""

import argparse
import logging
import secrets
import threading
from dataclasses import dataclass

from flask import Flask
from openbrokerapi import errors
from openbrokerapi.api import BrokerCredentials, get_blueprint
from openbrokerapi.catalog import ServicePlan
from openbrokerapi.router import Router
from openbrokerapi.service_broker import (
    Binding,
    BindState,
    GetBindingSpec,
    LastOperation,
    OperationState,
    Service,
    ServiceBroker,
    UnbindSpec,
)
from werkzeug.serving import make_server

INSTANCE = "training-app-db"

CATALOG = [
    Service(
        id="offering-database",
        name="database",
        description="keys that can be read again",
        bindable=True,
        bindings_retrievable=True,
        plans=[
            # The library does not know these two fields, and passes them on.
            ServicePlan(id="plan-database-small", name="small", description="small", binding_rotatable=True),
            ServicePlan(id="plan-database-brief", name="brief", description="brief", maximum_polling_duration=5),
        ],
    ),
    Service(
        id="offering-metrics",
        name="metrics",
        description="keys that are shown once",
        bindable=True,
        plans=[ServicePlan(id="plan-metrics-basic", name="basic", description="basic")],
    ),
]


@dataclass
class Key:
    """One binding."""

    #: What it was made from.
    request: tuple
    credentials: dict
    #: What is under way: "bind", "unbind" or nothing.
    work: str | None = None
    looked_at: bool = False

    def begin(self, work):
        self.work, self.looked_at = work, False


class Broker(ServiceBroker):
    def __init__(self, in_background):
        self.in_background = in_background
        self.keys = {}
        self.held = False
        #: How many bindings were ever made, and how often that was asked for.
        self.made = self.binds = 0

    def catalog(self):
        return CATALOG

    def bind(self, instance_id, binding_id, details, async_allowed, **_):
        self.binds += 1
        if instance_id != INSTANCE:
            raise errors.ErrInstanceDoesNotExist()
        parameters = details.parameters or {}
        if parameters.get("role") not in (None, "reader", "writer"):
            raise errors.ErrBadRequest("`role` is neither reader nor writer")
        request = (details.service_id, details.plan_id, parameters)
        key = self.keys.get(binding_id)
        if key and key.request != request:
            raise errors.ErrBindingAlreadyExists()
        if key and not key.work:
            return Binding(BindState.IDENTICAL_ALREADY_EXISTS, key.credentials)
        self.check_pace(key, "bind", async_allowed)
        if key is None:
            key = self.make(binding_id, request)
        if key.work:
            return Binding(BindState.IS_ASYNC, operation=key.work)
        return Binding(BindState.SUCCESSFUL_BOUND, key.credentials)

    def unbind(self, instance_id, binding_id, details, async_allowed, **_):
        key = self.keys.get(binding_id)
        if key is None:
            raise errors.ErrBindingDoesNotExist()
        self.check_pace(key, "unbind", async_allowed)
        if not self.in_background:
            del self.keys[binding_id]
        elif not key.work:
            key.begin("unbind")
        return UnbindSpec(self.in_background, key.work)

    def get_binding(self, instance_id, binding_id, **_):
        key = self.keys.get(binding_id)
        if key is None or key.work == "bind":
            raise errors.ErrBindingDoesNotExist()
        return GetBindingSpec(key.credentials)

    def last_binding_operation(self, instance_id, binding_id, operation_data, service_id, plan_id, **_):
        key = self.keys.get(binding_id)
        if key is None:
            raise errors.ErrBindingDoesNotExist()
        if key.work is None:
            return LastOperation(OperationState.SUCCEEDED)
        if operation_data != key.work:
            raise errors.ErrBadRequest(f"`{operation_data}` is not under way")
        if self.held or not key.looked_at:
            key.looked_at = True
            return LastOperation(OperationState.IN_PROGRESS, "one moment")
        self.finish(binding_id)
        return LastOperation(OperationState.SUCCEEDED)

    def check_pace(self, key, work, async_allowed):
        """One operation at a time, and in the background if at all there."""
        if self.in_background and not async_allowed:
            raise errors.ErrAsyncRequired()
        if any(other.work and (other is not key or other.work != work) for other in self.keys.values()):
            raise errors.ErrConcurrentInstanceAccess()

    def make(self, binding_id, request):
        self.made += 1
        key = Key(request, {
            "hostname": "db.example.com",
            "port": 5432,
            "username": f"user-{self.made}",
            "password": secrets.token_urlsafe(),
        })
        if self.in_background:
            key.begin("bind")
        self.keys[binding_id] = key
        return key

    def finish(self, binding_id):
        if self.keys[binding_id].work == "unbind":
            del self.keys[binding_id]
        else:
            self.keys[binding_id].work = None

    def release(self):
        """Finishes all that is under way, and holds back nothing any more."""
        self.held = False
        for binding_id in [binding_id for binding_id, key in self.keys.items() if key.work]:
            self.finish(binding_id)


def one_at_a_time(application):
    """Requests change what others read, each on its own thread."""
    lock = threading.Lock()

    def locked(environ, start_response):
        with lock:
            return application(environ, start_response)

    return locked


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--username", required=True)
    arguments.add_argument("--password", required=True)
    arguments.add_argument("--in-background", action="store_true")
    arguments.add_argument("--routed", action="store_true")
    chosen = arguments.parse_args()

    broker = Broker(chosen.in_background)
    app = Flask(__name__)
    login = BrokerCredentials(chosen.username, chosen.password)
    served = Router(broker) if chosen.routed else broker
    app.register_blueprint(get_blueprint(served, login, logging.getLogger("broker")))

    @app.get("/testing")
    def state():
        bindings = {
            binding_id: {"credentials": key.credentials, "work": key.work} for binding_id, key in broker.keys.items()
        }
        return {"bindings": bindings, "made": broker.made, "binds": broker.binds}

    @app.post("/testing/hold")
    def hold():
        broker.held = True
        return {}

    @app.post("/testing/release")
    def release():
        broker.release()
        return {}

    app.wsgi_app = one_at_a_time(app.wsgi_app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"listening on http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
