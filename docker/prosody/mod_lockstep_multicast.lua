-- SPDX-License-Identifier: Apache-2.0
--
-- mod_lockstep_multicast: one stanza for many (XEP-0033), for components.
--
-- Without it lockstepd sends Prosody each message of a group once for every
-- device, and Prosody parses and checks each of them. With it lockstepd sends
-- one stanza with a list of addresses, and a group costs what a room does.
--
-- Put this file where Prosody looks for modules (plugin_paths), and add
-- "lockstep_multicast" to modules_enabled of the VirtualHost, or of the whole
-- server. lockstepd finds the service by itself.
--
-- Only components of this server may use it (XEP-0114: they know a secret), only
-- for messages, and only with bcc addresses: nobody is told who else got one.

local xmlns = "http://jabber.org/protocol/address";

local st = require "util.stanza";
local jid_prep = require "util.jid".prep;

-- lockstepd writes 100 at most; the size of a stanza is limited anyway.
local max = module:get_option_number("lockstep_multicast_addresses", 1000);

module:add_feature(xmlns);

module:hook("message/host", function (event)
	local origin, stanza = event.origin, event.stanza;
	local addresses = stanza:get_child("addresses", xmlns);
	if not addresses or stanza.attr.type == "error" then
		return;
	end
	if origin.type ~= "component" then
		origin.send(st.error_reply(stanza, "auth", "forbidden", "Only components may multicast"));
		return true;
	end
	local to = {};
	for address in addresses:childtags("address", xmlns) do
		local jid = address.attr.type == "bcc" and jid_prep(address.attr.jid);
		if not jid or #to == max then
			origin.send(st.error_reply(stanza, "modify", "not-acceptable", "Up to " .. max .. " bcc addresses with a JID each"));
			return true;
		end
		to[#to + 1] = jid;
	end
	-- As mod_muc does: who keeps a stanza beyond the call, makes a copy.
	local message = st.clone(stanza);
	message:remove_children("addresses", xmlns);
	for _, jid in ipairs(to) do
		message.attr.to = jid;
		module:send(message);
	end
	return true;
end);
