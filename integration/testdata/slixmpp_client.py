# SPDX-License-Identifier: Apache-2.0
"""A foreign XMPP client for scenarios: slixmpp, which knows nothing of MLS.

Commands come as JSON lines on standard input, what it is told goes out as JSON lines.
"""
import asyncio
import json
import logging
import os
import sys

import slixmpp

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def tell(kind, text=""):
    sys.stdout.write(json.dumps({"kind": kind, "text": text}) + "\n")
    sys.stdout.flush()


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, password):
        # Its server's certificate is checked on the way: see the scenario's link.
        super().__init__(jid, password, plugin_config={"feature_mechanisms": {"unencrypted_scram": True}})
        for name in ("xep_0030", "xep_0045", "xep_0060", "xep_0163", "xep_0115", "xep_0199", "xep_0280", "xep_0359", "xep_0380"):
            self.register_plugin(name)
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("message", self.message)
        self.add_event_handler("groupchat_message", self.groupchat)
        self.add_event_handler("failed_all_auth", lambda _: tell("error", "authentication failed"))
        self.add_event_handler("disconnected", lambda _: tell("offline"))
        self.add_event_handler("message_error", lambda m: tell("message-error", str(m)))

    async def started(self, _):
        await self.get_roster()
        self.send_presence()
        try:
            await self["xep_0280"].enable()
        except slixmpp.exceptions.XMPPError as e:
            tell("carbons-error", str(e))
        tell("online", self.boundjid.full)

    def message(self, m):
        tell("stanza", str(m))
        if m["type"] in ("chat", "normal") and m["body"]:
            tell(m["type"], "%s: %s" % (m["from"].bare, m["body"]))

    def groupchat(self, m):
        if m["body"]:
            tell("groupchat", "%s: %s" % (m["from"], m["body"]))

    async def command(self, c):
        verb = c["verb"]
        args = c["args"]
        try:
            if verb == "chat":
                self.send_message(mto=args[0], mbody=args[1], mtype="chat")
            elif verb == "say":
                self.send_message(mto=args[0], mbody=args[1], mtype="groupchat")
            elif verb == "join":
                await self["xep_0045"].join_muc_wait(args[0], args[1], timeout=20)
            elif verb == "alive":
                await self["xep_0199"].ping(self.boundjid.domain, timeout=20)
            elif verb == "disco":  # of the delivery service, as a person who looks around
                info = await self["xep_0030"].get_info(jid=args[0], timeout=20)
                ids = [i for i in info["disco_info"]["identities"]]
                tell("disco", json.dumps(ids))
            elif verb == "logout":
                await self.disconnect()
            else:
                raise ValueError("no such verb " + verb)
            tell("done", c["id"])
        except Exception as e:  # every failure is the scenario's to judge
            tell("failed", c["id"] + " " + repr(e))


async def main():
    xmpp = Client(sys.argv[1], os.environ["SLIXMPP_PASSWORD"])
    host, port = sys.argv[2].rsplit(":", 1)
    xmpp.connect((host, int(port)), force_starttls=False, disable_starttls=True)
    loop = asyncio.get_event_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while True:
        line = await reader.readline()
        if not line:
            break
        asyncio.ensure_future(xmpp.command(json.loads(line)))
    xmpp.abort()


asyncio.get_event_loop().run_until_complete(main())
