package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"sort"
	"strings"
)

// witness is a transport that keeps the body of the last answer as it came over the wire.
type witness struct {
	body []byte
}

func (w *witness) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if w.body, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(w.body))
	return response, nil
}

// differences says what is in a JSON value that a type of the client does not know, and what the client requires that
// is not there. The client itself ignores both.
func differences(what string, body []byte, kind reflect.Type) []string {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return []string{what + ": is no JSON"}
	}
	return compare(what, value, kind)
}

func compare(what string, value any, kind reflect.Type) []string {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch value := value.(type) {
	case []any:
		found := []string{}
		if kind.Kind() == reflect.Slice {
			for _, element := range value {
				found = append(found, compare(what+"[]", element, kind.Elem())...)
			}
		}
		return found
	case map[string]any:
		if kind.Kind() == reflect.Struct {
			return compareObject(what, value, kind)
		}
	}
	return nil
}

func compareObject(what string, value map[string]any, kind reflect.Type) []string {
	found, known, open := []string{}, map[string]bool{}, false
	for _, field := range reflect.VisibleFields(kind) {
		// Where the client takes additional properties, it has this field for them.
		open = open || field.Name == "additionalProperties"
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		known[name] = true
		element, there := value[name]
		if !there && strings.Contains(field.Tag.Get("validate"), "required") {
			found = append(found, what+" lacks "+name)
		}
		found = append(found, compare(what+"."+name, element, field.Type)...)
	}
	for name := range value {
		if !known[name] && !open {
			found = append(found, what+" has "+name)
		}
	}
	sort.Strings(found)
	return found
}
