package acmeclient

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unique"
)

// masked is what is printed in place of a Secret.
const masked = "***"

// A Secret is text that must not be seen, such as the key of an external account binding. Whatever prints it prints ***:
// fmt with any verb, slog, encoding/json, and whatever else looks for a text form. [Secret.Reveal] returns the text.
//
// It is not a string, because there are ways past the methods of a type: a Secret in an unexported field, or printed with
// a verb that is wrong for it, shows at most where it is kept. Two Secrets are equal (==) if their texts are. The zero
// Secret is empty.
type Secret struct {
	text unique.Handle[string]
}

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(text)}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return s.text.Value()
}

// IsZero reports whether s is empty.
func (s Secret) IsZero() bool { return s == Secret{} }

// String returns ***.
func (Secret) String() string { return masked }

// GoString returns ***.
func (Secret) GoString() string { return masked }

// Format writes ***, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, masked) }

// LogValue returns ***.
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText returns ***. What was marshalled cannot be read back.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// UnmarshalText takes the text, so that a Secret can be read from JSON. It refuses ***, which is not the text but what was printed of it.
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == masked {
		return errors.New("a secret was masked as *** when it was written: the text itself is needed")
	}
	*s = NewSecret(string(text))
	return nil
}
