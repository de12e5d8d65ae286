from typing import Annotated

from schemas.base import Operational, Schema


class Server(Schema):
    model: str = "m"
    retries: Annotated[int, Operational] = 3


class Params(Schema):
    server: Server = Server()
    mirrors: tuple[Server, ...] = (Server(),)
    by_name: dict[str, Server] = {"a": Server()}
    verbose: Annotated[bool, Operational] = False


def test_operational_fields_do_not_count_at_any_depth():
    patient = Server(retries=9)
    changed = Params(server=patient, mirrors=(patient,), by_name={"a": patient}, verbose=True)
    assert changed.identity_json() == Params().identity_json()
    assert changed.to_json() != Params().to_json()


def test_every_other_field_counts():
    other = Server(model="n")
    changed = [
        Params(server=other),
        Params(mirrors=(other,)),
        Params(mirrors=()),
        Params(by_name={"a": other}),
    ]
    identities = [repr(params.identity_json()) for params in [Params(), *changed]]
    assert len(set(identities)) == len(identities)
