"""Stages that start at once: a preloaded interpreter forks a process for each.

Nine tenths of a small stage are the imports of torch, pandas, timm and Great Expectations. So `python -m stages.NAME`
begins as a thin client (`warm.client`, called by `stages/__init__.py`). It asks the preloaded interpreter of this
workspace (`warm.server`), which has imported what the stages import, for a copy of itself that runs the stage
(`warm.child`). Where there is none, the client starts one and goes on by itself, as if none of this existed.

The preloaded interpreter imports no code of the project, so every stage reads it afresh. What an interpreter takes over
when it starts or imports, and a fork cannot change any more, is part of its name (`warm.place`): a stage with another
OMP_NUM_THREADS finds no interpreter of that name and starts one. It has one thread and has not touched a GPU, or it
refuses to serve. It ends after a minute without a stage, when the lock file of requirements, the installed packages or
a file that it has loaded changes, or when the workspace is gone. Linux only: fork, /proc and peer credentials are
needed. `COSE_WARM=0` turns it off.

The protocol, over a Unix socket in a folder that only the user can enter:

1. The client sends four bytes, the length of what follows, and JSON: the stage and its arguments, working directory,
   environment, umask, import path, how its standard streams are encoded, and which signals it ignores or blocks.
2. The server, which has only accepted the connection and checked whose it is, has forked a keeper (`warm.keeper`). The
   keeper reads the request and forks the child, which takes it over and says in one byte that it is ready. If that does
   not come within a few seconds, or the connection ends, the client runs the stage itself.
3. Otherwise the client answers with one byte, the go, and with it come its open standard streams (SCM_RIGHTS). Only
   then does the child begin. From here on the client sends a byte for every signal that it gets, and the keeper sends
   that signal to the child and its children. If the connection ends, the client is dead, and the keeper kills them.
4. The keeper sends the child's wait status, four bytes, and ends. The client ends in the same way: with the same exit
   code, or by the same signal.

Neither child nor keeper needs the server once they run: it may end, or be killed, at any time.
"""
