// Package follow reads what switches leave behind them, files that grow, folders of
// files, and the events of Asterisk's manager, and hands it on in pieces of whole
// records.
//
// The guarantee: each record is handed on at least once, and a [Follower] that was
// killed anywhere goes on where it was. The state file moves on only once what was
// handed on is answered, so that a crash repeats some records and loses none; the
// book knows repeats by their ids. What could not be read, because it was gone
// before it could be, is named in a warning: from which byte of which file on, and
// of which time.
//
// The assumption: a file grows at its end, and its content up to a position stays
// as it was. So a file is known again by its content, the first bytes and those
// before the position, wherever a rotation has put it; device and inode only say
// where to look first. A file of the same inode with another content is another file.
//
// TestRotation and TestFollowKilled of cmd/tollbook show it with a running engine.
package follow
