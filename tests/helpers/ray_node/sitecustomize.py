"""Every Python begins with this where its folder is on the path, as on nodes of a Ray cluster: see `zygote`."""

import zygote

zygote.fork_servers()
