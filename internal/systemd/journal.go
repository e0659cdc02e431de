package systemd

import (
	"bytes"
	"io"

	"github.com/rs/zerolog"
)

// The levels of the journal, which are those of syslog.
const (
	journalError   = '3'
	journalWarning = '4'
	journalInfo    = '6'
	journalDebug   = '7'
)

// Journal begins each line with its level, as the journal takes it from a service's standard error
// (SyslogLevelPrefix=). It is a zerolog.LevelWriter; what is written without a level is an error
// message of a command.
type Journal struct{ w io.Writer }

// NewJournal returns the writer to the journal behind w, and whether there is one: JOURNAL_STREAM,
// read with lookup as by os.LookupEnv, names the device and inode of w. Otherwise somebody has
// redirected it.
func NewJournal(w io.Writer, lookup func(string) (string, bool)) (Journal, bool) {
	stream, _ := lookup("JOURNAL_STREAM")
	return Journal{w}, stream != "" && stream == identity(w)
}

// Write implements io.Writer.
func (j Journal) Write(text []byte) (int, error) { return j.write(journalError, text) }

// WriteLevel implements zerolog.LevelWriter.
func (j Journal) WriteLevel(level zerolog.Level, text []byte) (int, error) {
	priority := byte(journalInfo)
	switch {
	case level >= zerolog.ErrorLevel && level <= zerolog.PanicLevel:
		priority = journalError
	case level == zerolog.WarnLevel:
		priority = journalWarning
	case level < zerolog.InfoLevel:
		priority = journalDebug
	}
	return j.write(priority, text)
}

func (j Journal) write(priority byte, text []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		out.Write([]byte{'<', priority, '>'})
		out.Write(line)
	}
	if _, err := j.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}
