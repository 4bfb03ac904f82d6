-- SPDX-License-Identifier: Apache-2.0
--
-- Prosody 0.12 or 13 with lockstep attached. The container of this folder runs
-- it as it is. On a server that you already run, add the four lines marked
-- [lockstep] to your own configuration, and read the notes marked [note].
-- In plain form they are
--
--	component_interfaces = { "127.0.0.1" }        -- global: above the first VirtualHost
--	Component "mls.example.org"                   -- at the end
--		component_secret = "…"                    -- the same in lockstepd's configuration
--		component_conflict_resolve = "kick_old"   -- a restarted lockstepd takes over at once
--
-- The component port is 5347 (component_ports). For users of other servers,
-- mls.example.org needs an address in DNS, as every component does.

local domain  = ENV_LOCKSTEP_DOMAIN or "example.org"
local secret  = ENV_LOCKSTEP_COMPONENT_SECRET or "change this secret"
local uploads = ENV_LOCKSTEP_UPLOAD_URL or ("https://upload." .. domain .. ":5281/")

-- ---- for the whole server --------------------------------------------------

component_interfaces = { ENV_LOCKSTEP_COMPONENT_INTERFACE or "127.0.0.1" } -- [lockstep]

admins = { "admin@" .. domain }

modules_enabled = {
	"disco", "roster", "saslauth", "tls", "dialback",
	"blocklist", "bookmarks", "carbons", "pep", "private", "vcard4", "vcard_legacy",
	"smacks",     -- streams that survive a lost connection (XEP-0198)
	"csi_simple", -- phones that sleep
	"mam",        -- archive of ordinary messages; lockstep's never enter it
	"offline",    -- lockstep leaves at most one notice here for a sleeping user
	"ping", "time", "version", "uptime",
	"admin_adhoc", "admin_shell", "limits",
	"posix",      -- Prosody 13 has it built in
	"lockstep_multicast", -- [note] optional: makes large groups cheap, see the file
}
plugin_paths = { ENV_LOCKSTEP_MODULES or "/usr/local/lib/prosody/modules" } -- where mod_lockstep_multicast.lua is

-- [note] What a client may send per second. Prosody's default of 10 kB/s makes
-- large invitations slow: 200 kB take 20 s. This does for groups of a thousand.
limits = {
	c2s = { rate = "100kb/s", burst = "10s" },
	s2sin = { rate = "300kb/s", burst = "10s" },
}

-- [note] The size limits of stanzas may stay as they are (256 KiB from clients,
-- 512 KiB from servers and components): lockstep sends pages of 48 KiB.

authentication = "internal_hashed"
storage = "internal"
archive_expires_after = "4w"
default_archive_policy = true

c2s_require_encryption = true
c2s_direct_tls_ports = { 5223 }
s2s_require_encryption = true
s2s_secure_auth = false -- dialback will do, so that small servers can join

certificates = ENV_LOCKSTEP_CERTS or "certs"
http_ports = { }
https_ports = { 5281 }
http_default_host = "upload." .. domain

data_path = "/var/lib/prosody"
pidfile = "/run/prosody/prosody.pid"
log = { { levels = { min = ENV_LOCKSTEP_LOG_LEVEL or "info" }, to = "console" } }

-- ---- hosts and components --------------------------------------------------

VirtualHost (domain)

Component ("mls." .. domain)                 -- [lockstep]
	component_secret = secret                  -- [lockstep]
	component_conflict_resolve = "kick_old"    -- [lockstep]

-- Rooms without end-to-end encryption, beside lockstep's groups.
Component ("rooms." .. domain) "muc"
	name = "Rooms"
	restrict_room_creation = "local"
	modules_enabled = { "muc_mam" }

-- Files (XEP-0363). lockstep's clients encrypt them before they upload.
Component ("upload." .. domain) "http_file_share"
	http_external_url = uploads
	http_file_share_size_limit = 64 * 1024 * 1024
	http_file_share_daily_quota = 1024 * 1024 * 1024
	http_file_share_expires_after = 30 * 24 * 3600
