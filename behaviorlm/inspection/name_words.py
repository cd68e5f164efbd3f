"""What columns are called in several languages: words that speak for a role. Small, closed lists of ours."""

import re
import unicodedata


def _folded(text: str) -> str:
    """Small, without accents and other combining signs."""
    return "".join(
        sign for sign in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(sign)
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(_folded(text).split())


USER = _words(
    """
    user userid uid username customer client visitor visitorid patient member trainee player student
    learner subscriber resident inhabitant person distinct employee shopper kunde kunden kundennummer
    kundennr benutzer benutzername nutzer teilnehmer utilisateur identifiant usuario utente cliente
    gebruiker klant bruker anvandare kayttaja uzytkownik klient uzivatel kullanici musteri пользователь
    клиент 用户 用户id ユーザー ユーザーid 사용자
    """
)
PERHAPS_USER = _words(
    """
    account case caseid device deviceid anonymous anonymousid cookie home household vehicle machine
    login email actor who ip profile konto compte cuenta fall
    """
)
BEHAVIOR = _words(
    """
    action activity behavior behaviour event eventname eventtype command operation verb tool aktion
    aktivitat ereignis vorgang handlung verhalten evenement activite accion evento actividad azione
    attivita acao atividade handeling activiteit gebeurtenis handelse akcja zdarzenie olay действие
    событие 行为 事件 操作 行動 イベント 행동 concept
    """
)
PERHAPS_BEHAVIOR = _words(
    """
    type name category kind app application item page screen product label what step task service method
    typ art kategorie categorie categoria status state tag place venue url path feature button
    interaction
    """
)
TIME = _words(
    """
    time at timestamp datetime date ts when eventtime created createdat occurred begin start started
    zeit zeitpunkt zeitstempel datum uhrzeit beginn fecha hora heure horodatage data orario tijd
    tijdstip tid tidspunkt czas cas zaman tarih время дата 时间 日時 day tag
    """
)
LESS_TIME = _words(
    """
    end ended finish finished updated modified birth birthday registration registered signup expires
    expiry received processed loaded ingested deleted ende geburtsdatum geandert stop due until last
    first
    """
)
STEP = _words(
    """
    seq sequence step position pos order index idx number offset rank row nr no num line turn schritt
    reihenfolge nummer zeile folge ordre etape paso orden numero message
    """
)
SESSION = _words(
    """
    session sessionid visit visitid sitzung besuch sesion sessione sessie сессия 会话 trip episode
    """
)
GROUP = _words(
    """
    household home family group haushalt familie gruppe company organization organisation tenant team
    school class clinic hospital site firma groupe grupo foyer cohort
    """
)
SPLIT_VALUES = _words(
    """
    train training validation val valid dev development test testing holdout eval
    """
)
IDENTIFIERS = _words(
    """
    id nr no num number key code uuid guid hash nummer ref pk sk anon name
    """
)


def words_of(name: str) -> list[str]:
    """The words of a column's name, small and without accents: userId, user_id and `User ID` are user, id."""
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return re.findall(r"[^\W_]+", _folded(split))


def speaks_for(name: str, words: frozenset[str], perhaps: frozenset[str] = frozenset()) -> float:
    """From 0 to 3: how much a name speaks for a role. The last part of a name with dots counts most."""
    own = words_of(name.rpartition(".")[2])
    around = words_of(name.rpartition(".")[0])
    found = max(_of_words(own, words, 3.0), _of_words(own, perhaps, 1.5))
    return max(found, 0.6 * max(_of_words(around, words, 3.0), _of_words(around, perhaps, 1.5)))


def _of_words(own: list[str], words: frozenset[str], most: float) -> float:
    if "".join(own) in words:
        return most
    known = [word for word in own if word in words]
    if known:
        rest = [word for word in own if word not in words and word not in IDENTIFIERS]
        return most * (1.0 if not rest else 0.7)
    long = [word for word in words if len(word) >= 5]
    return most * 0.6 if any(word.startswith(start) for word in own for start in long) else 0.0
