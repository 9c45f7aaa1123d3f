package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A section is a PEM block of metadata (a JSON object) and the blocks that
// follow it. The metadata holds the SHA-256 of its other fields and of all that
// follows it, to the end of the value: a value that was cut short, put together
// from others or changed is found out. Fields of the metadata that this version
// does not know are kept, so that versions can share a Store.
type section struct {
	meta    any                        // a struct that encodes to a JSON object
	unknown map[string]json.RawMessage // fields that meta has no place for
	blocks  []*pem.Block
}

// rawSection is a section whose metadata is not decoded yet.
type rawSection struct {
	meta   json.RawMessage
	blocks []*pem.Block
}

// Bounds on what is decoded: the Store's content is not trusted.
const (
	maxSections = 16
	maxBlocks   = 256
)

// sumField is the field of the metadata that holds the hash.
const sumField = "sha256"

// encodeSections writes sections one behind the other, each with metadata in
// a block of type metaType.
func encodeSections(metaType string, sections []section) ([]byte, error) {
	var rest []byte
	for _, s := range slices.Backward(sections) { // each holds the hash of those behind it
		var err error
		if rest, err = s.encodeBefore(metaType, rest); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// encodeBefore returns the section with rest behind it.
func (s section) encodeBefore(metaType string, rest []byte) ([]byte, error) {
	var body bytes.Buffer
	for _, b := range s.blocks {
		if err := pem.Encode(&body, b); err != nil {
			return nil, err
		}
	}
	body.Write(rest)
	fields, err := objectFields(s.meta)
	if err != nil {
		return nil, err
	}
	for name, value := range s.unknown {
		if _, known := fields[name]; !known {
			fields[name] = value
		}
	}
	text, err := json.Marshal(fields) // sorts the fields: one encoding for one content
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(text)
	sum.Write(body.Bytes())
	fields[sumField] = json.RawMessage(`"` + hex.EncodeToString(sum.Sum(nil)) + `"`)
	if text, err = json.Marshal(fields); err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: metaType, Bytes: text}), body.Bytes()...), nil
}

// objectFields returns v as the fields of a JSON object.
func objectFields(v any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fields := make(map[string]json.RawMessage)
	err = json.Unmarshal(text, &fields)
	return fields, err
}

// decodeSections splits data into sections that begin with blocks of type
// metaType. It is the caller who checks with checkForm what they hold.
func decodeSections(data []byte, metaType string) ([]rawSection, error) {
	var sections []rawSection
	blocks := 0
	for len(data) > 0 {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("it ends in something that is not PEM")
		}
		data = rest
		if blocks++; blocks > maxBlocks {
			return nil, fmt.Errorf("it has more than %d PEM blocks", maxBlocks)
		}
		if block.Type != metaType {
			if len(sections) == 0 {
				return nil, fmt.Errorf("it begins with a block %.40q instead of %q", block.Type, metaType)
			}
			last := &sections[len(sections)-1]
			last.blocks = append(last.blocks, block)
			continue
		}
		if len(sections) == maxSections {
			return nil, fmt.Errorf("it has more than %d blocks %q", maxSections, metaType)
		}
		sections = append(sections, rawSection{meta: block.Bytes})
	}
	return sections, nil
}

// checkForm checks that data is, byte for byte, what was decoded from it
// encodes to, hashes included.
func checkForm(data []byte, encode func() ([]byte, error)) error {
	again, err := encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("it is not as this program wrote it: its form or its hash is another")
	}
	return nil
}

// metadata decodes the section's metadata into meta, a pointer to a struct,
// and returns the fields that it has no place for.
func (s rawSection) metadata(meta any) (unknown map[string]json.RawMessage, err error) {
	if err := json.Unmarshal(s.meta, &unknown); err != nil {
		return nil, fmt.Errorf("its metadata: %w", err)
	}
	if err := json.Unmarshal(s.meta, meta); err != nil {
		return nil, fmt.Errorf("its metadata: %w", err)
	}
	known, err := objectFields(meta)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(unknown, func(name string, _ json.RawMessage) bool {
		_, ok := known[name]
		return ok || name == sumField
	})
	return unknown, nil
}
