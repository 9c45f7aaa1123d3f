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
)

// A section is a PEM block of metadata (a JSON object) and the blocks that
// follow it, whose SHA-256 the metadata holds: a value that was cut short or
// mixed up is found out. Fields of the metadata that this version does not
// know are kept, so that versions can share a Store.
type section struct {
	meta   json.RawMessage
	blocks []*pem.Block
}

// Bounds on what is decoded: the Store's content is not trusted.
const (
	maxSections = 16
	maxBlocks   = 64
)

// sumField is the field of the metadata that holds the hash of the rest.
const sumField = "sha256"

// encodeSection writes meta (a struct that encodes to a JSON object), with
// the unknown fields that it came with, and the blocks.
func encodeSection(out *bytes.Buffer, metaType string, meta any, unknown map[string]json.RawMessage, blocks []*pem.Block) error {
	var rest bytes.Buffer
	for _, b := range blocks {
		if err := pem.Encode(&rest, b); err != nil {
			return err
		}
	}
	fields, err := objectFields(meta)
	if err != nil {
		return err
	}
	for name, value := range unknown {
		if _, known := fields[name]; !known {
			fields[name] = value
		}
	}
	sum := sha256.Sum256(rest.Bytes())
	fields[sumField] = json.RawMessage(`"` + hex.EncodeToString(sum[:]) + `"`)
	text, err := json.Marshal(fields) // sorts the fields: one encoding for one content
	if err != nil {
		return err
	}
	if err := pem.Encode(out, &pem.Block{Type: metaType, Bytes: text}); err != nil {
		return err
	}
	out.Write(rest.Bytes())
	return nil
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
// metaType, and checks their hashes.
func decodeSections(data []byte, metaType string) ([]section, error) {
	var sections []section
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
		if block.Type == metaType {
			sections = append(sections, section{meta: block.Bytes})
			continue
		}
		if len(sections) == 0 {
			return nil, fmt.Errorf("it begins with a block %q instead of %q", block.Type, metaType)
		}
		last := &sections[len(sections)-1]
		last.blocks = append(last.blocks, block)
	}
	if len(sections) > maxSections {
		return nil, fmt.Errorf("it has more than %d blocks %q", maxSections, metaType)
	}
	for _, s := range sections {
		if err := s.checkSum(); err != nil {
			return nil, err
		}
	}
	return sections, nil
}

func (s section) checkSum() error {
	var claim struct {
		Sum string `json:"sha256"`
	}
	if err := json.Unmarshal(s.meta, &claim); err != nil {
		return fmt.Errorf("its metadata: %w", err)
	}
	h := sha256.New()
	for _, b := range s.blocks {
		if err := pem.Encode(h, b); err != nil {
			return err
		}
	}
	if claim.Sum != hex.EncodeToString(h.Sum(nil)) {
		return errors.New("its hash does not match its content: it was cut short or changed")
	}
	return nil
}

// metadata decodes the section's metadata into meta, a pointer to a struct,
// and returns the fields that it has no place for.
func (s section) metadata(meta any) (unknown map[string]json.RawMessage, err error) {
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
